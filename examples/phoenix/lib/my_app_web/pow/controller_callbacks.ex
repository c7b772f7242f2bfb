defmodule MyAppWeb.Pow.ControllerCallbacks do
  @moduledoc "Pow's own callbacks, and logging a user out everywhere after a password reset."

  alias Pow.Extension.Phoenix.ControllerCallbacks
  alias PowRedisCache.Sessions
  alias PowResetPassword.Phoenix.ResetPasswordController

  defdelegate before_process(controller, action, results, config), to: ControllerCallbacks

  def before_respond(controller, action, results, config) do
    with {ResetPasswordController, :update, {:ok, user, _conn}} <- {controller, action, results} do
      Sessions.log_out_everywhere(user, otp_app: :my_app, endpoint: MyAppWeb.Endpoint)
    end

    ControllerCallbacks.before_respond(controller, action, results, config)
  end
end
